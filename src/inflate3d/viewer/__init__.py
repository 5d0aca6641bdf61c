"""Scrolling through scans and label maps in a browser, with NiiVue, which is included in the package."""
