"""What happens between feed and sinks: archive first, publish second, ledger of what is missing."""
