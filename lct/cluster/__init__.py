"""Cluster: what a job needs, and how far running jobs are."""
