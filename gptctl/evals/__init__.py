"""Evaluation: run a model on data, score its predictions or those of any other system, and compare the scores.

    prediction.py, inference/, tasks/    from documents to rows of predictions
    evaluation.py, scoring/, metrics/, prediction_types/    from rows to a report
    comparison/, leakage.py, stats/      baselines, other systems, gates, training data, intervals
    harness/, output/                    lm-evaluation-harness; tables, Markdown, JUnit, files
"""
