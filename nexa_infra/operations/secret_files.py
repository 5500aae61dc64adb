"""Files that hold credentials by their names: they go into no snapshot.

Only names that mean nothing else: a program whose `config.json` were left out would not run.

Source: the file names known to gitrob (github.com/michenriksen/gitrob, core/signatures.go), shhgit
(github.com/eth0izzle/shhgit, config.yaml) and gitleaks (github.com/gitleaks/gitleaks, its rules with a path), and the
programs' own manuals.
"""

from __future__ import annotations

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
_PATTERNS = (*_KEYS, *_LOGINS, "credentials", ".credentials", ".secrets",
             *(f"{name}.{suffix}" for name in _NAMED for suffix in _KEPT_IN))  # fmt: skip


def is_secret_file(name: str) -> bool:
    """Whether a path from the project's root is that of a file in which credentials are kept, by its name alone."""
    *folders, base = name.lower().split("/")
    return (
        any(fnmatchcase(base, pattern) for pattern in _PATTERNS)
        or not _FOLDERS.isdisjoint(folders)
        or "/".join([*folders[-1:], base]) in _PATHS
    )
