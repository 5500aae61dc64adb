"""Files: tiers, manifests, digests, promotion, the index over the manifests."""
