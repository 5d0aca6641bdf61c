"""Comparing methods: arms trained under one protocol, and their results in one table."""
