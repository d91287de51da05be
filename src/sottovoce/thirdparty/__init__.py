"""Services run by third parties: relay, CDN mirror, log, witness."""
