"""How a model is asked: one file per task. A task turns documents into pieces of tokens, and answers into rows.

    ROWS                                        the kind of rows it makes, a file of gptctl/evals/kinds
    prepare(table, model, settings) -> Prepared pieces, and how their answers become rows; no model is run
    answer(model, pieces, settings, device, each_batch) -> dict of columns, each (N,): what the cache keeps
    facts(model, settings) -> dict              what a reader of the figures must know, such as context and stride

The answer to a piece depends on the piece, the model and the settings only.
"""
