"""Files that hold credentials by their names: they go into no snapshot.

Only names that mean nothing else: a program whose `config.json` were left out would not run.

Source: the file names known to gitrob (github.com/michenriksen/gitrob, core/signatures.go), shhgit
(github.com/eth0izzle/shhgit, config.yaml) and gitleaks (github.com/gitleaks/gitleaks, its rules with a path), and the
programs' own manuals.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_KEYS = (
    "*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.pkcs12", "*.jks", "*.keystore", "*.ppk", "*.kdb", "*.kdbx",
    "*.psafe3", "*.keychain", "*.agilekeychain", "*.ovpn", "*_rsa", "*_dsa", "*_ecdsa", "*_ed25519", "id_rsa*",
    "id_dsa*", "id_ecdsa*", "id_ed25519*", "secring.*", "otr.private_key",
)  # fmt: skip
_LOGINS = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".authinfo", ".pgpass", "pgpass.conf", ".my.cnf",
    ".mylogin.cnf", ".htpasswd", ".git-credentials", ".gitrobrc", ".pypirc", ".npmrc", ".dockercfg", ".s3cfg", ".boto",
    ".passwd-s3fs", "rclone.conf", ".rclone.conf", ".databrickscfg", ".vault-token", ".vault_pass*", ".tugboat",
    ".terraformrc", "terraform.rc", "terraform.tfvars", "*.auto.tfvars", "*.tfstate", "*.tfstate.*", ".ftpconfig",
    "sftp-config.json", ".remote-sync.json", "recentservers.xml", "proftpdpasswd", "kubeconfig", "kubeconfig.*",
    "*.kubeconfig", "kaggle.json", "access_tokens.db",
)  # fmt: skip
_KEPT_IN = ("json", "yaml", "yml", "toml", "xml", "ini", "csv", "txt", "db")
"""Of files named for what they hold; `credentials.py` is code."""
_NAMED = ("credentials", "*[_-]credentials", "credentials[_-]*", "secret", "secrets", "client_secret*",
          "service[_-]account*")  # fmt: skip
_PATHS = (".docker/config.json", ".kube/config", ".aws/config", "huggingface/token", ".huggingface/token")
_FOLDERS = frozenset({".ssh", ".gnupg", ".azure", ".gcloud"})
"""All that lies below is left out."""
_PATTERNS = (*_KEYS, *_LOGINS, "credentials", ".credentials", ".secrets")
_WILD = re.compile(r"[*?\[]")
# A project may have thousands of files, and a pattern takes 30 µs to compile: most are a name, an end or a beginning.
_WHOLE = frozenset(pattern for pattern in _PATTERNS if _WILD.search(pattern) is None)
_ENDS = tuple(text[1:] for text in _PATTERNS if text.startswith("*") and _WILD.search(text[1:]) is None)
_BEGINNINGS = tuple(text[:-1] for text in _PATTERNS if text.endswith("*") and _WILD.search(text[:-1]) is None)
_OTHERS = tuple(
    text
    for text in _PATTERNS
    if text not in _WHOLE and not (text.startswith("*") and text[1:] in _ENDS) and text[:-1] not in _BEGINNINGS
)


def is_secret_file(name: str) -> bool:
    """Whether a path from the project's root is that of a file in which credentials are kept, by its name alone."""
    *folders, base = name.lower().split("/")
    stem, _, suffix = base.rpartition(".")
    return (
        base in _WHOLE
        or base.endswith(_ENDS)
        or base.startswith(_BEGINNINGS)
        or any(fnmatchcase(base, pattern) for pattern in _OTHERS)
        or (suffix in _KEPT_IN and any(fnmatchcase(stem, pattern) for pattern in _NAMED))
        or not _FOLDERS.isdisjoint(folders)
        or "/".join([*folders[-1:], base]) in _PATHS
    )
