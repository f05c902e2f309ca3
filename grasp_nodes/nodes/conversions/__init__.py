"""The border between messages and the package's nouns: one file per group of nouns, each way round-trip exact."""
