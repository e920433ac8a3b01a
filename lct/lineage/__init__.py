"""Lineage: do outputs agree with their records? (Recording, restoring and auditing build on this room.)"""
