"""Reporting: pictures and the self-contained report page."""
