"""Evaluation: run a model on data, score its predictions or those of any other system, and compare the scores.

From documents to rows of predictions: dataset_predictor.py, inference/, tasks/. From rows to a report: evaluation.py,
scoring/, metrics/, prediction_types/. Comparisons with baselines, other systems, thresholds and training data:
comparison/, leakage.py, stats/. Besides: harness/ for lm-evaluation-harness, and output/ for tables, Markdown, JUnit
and files.
"""
