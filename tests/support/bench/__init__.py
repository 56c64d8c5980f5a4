"""The benchmark of scripts/bench: loads, peers, figures. Nothing here is a test."""
