"""Documents in files of other programs: JSON, NDJSON, CSV, Parquet."""
