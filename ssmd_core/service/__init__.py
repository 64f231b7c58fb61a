"""The process as operators see it: health, readiness, metrics, status and logs."""
