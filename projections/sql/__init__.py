"""The read side's SQL, one file per dialect."""
