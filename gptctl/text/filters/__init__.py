"""One filter a file; the file's name is the filter's public name.

A filter has three things:

- `Config`, a Settings with its thresholds;
- `rules(config)`: its reasons to drop a document, in order, each with the threshold that its figure must not pass;
- `measure(batch, config)`: the figures of a batch of documents, one column a rule, and what else it makes of them: new
  text, new columns, sums for the report.

The first rule that fails names the reason (`gptctl.text.cleaning.batch.decide`).
`gptctl clean --explain` shows the figures.
"""
