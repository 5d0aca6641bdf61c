"""Many scans at scale: shares for job schedulers, a Ray cluster, and files in buckets and on web servers."""
