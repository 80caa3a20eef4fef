"""One file per subcommand: its config, `plan` and `run`. A stage wires the packages below it and holds no algorithm.

from gptctl.stages.clean import Clean, run
run(Clean(inputs=("raw.jsonl",), out="clean"))
"""
