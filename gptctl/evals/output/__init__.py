"""Evaluation results for people and for CI: tables, Markdown, JUnit XML, files."""
