"""Scores of predictions: from rows to metrics with intervals.

scorer.py scores rows of any type, and report.py writes the result as JSON. confusion.py, averages.py, classification.py
and class_statistics.py are for classes; multilabel.py, calibration.py, squad.py and translation.py are for other
predictions. metric_results.py and additive.py hold metrics so that they can be resampled.
"""
