"""Scans and label maps to scroll in a browser, by NiiVue, which comes with the package."""
