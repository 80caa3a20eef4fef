"""The training job of a finetuning."""

from __future__ import annotations

from dataclasses import replace

from gptctl.core.config import plain
from gptctl.core.context import Context
from gptctl.train.job import TrainJob
from gptctl.train.planning.plan_run import Arrangement, arrange
from gptctl.train.recipe import Recipe
from gptctl.train.tasks.finetune_inputs import FinetuneInputs
from gptctl.train.tasks.finetune_options import FinetuneOptions


def make_job(config: FinetuneOptions, inputs: FinetuneInputs, context: Context) -> TrainJob:
    """Describe the training run: an evaluation and a checkpoint at the end of each epoch."""
    task, model = inputs.prepare(context.warn), inputs.model
    recipe = config.effective_recipe(task.label_weights, task.train_samples, model.max_seq_len)
    every = max(1, round(recipe.steps / max(1.0, config.epochs * config.eval_per_epoch)))
    lora = {"lora": plain(config.lora_config())} if config.lora else {}
    return TrainJob(
        recipe=recipe,
        model=task.model,
        train_sources=task.train_sources,
        phases=task.phases,
        val_data=task.val_data,
        objective=task.objective,
        tokenizer_json=task.tokenizer.to_json(),
        metadata={"stage": "finetune", "task": config.task, "data": inputs.fingerprints} | task.metadata | lora,
        seed=config.seed,
        patience=config.patience,
        select_on=task.select_on,
        eval_every=every,
        eval_batches=config.eval_batches,
        checkpoint_every=every,
        faults=config.faults,
        loggers=config.loggers,
        preference=config.preference_loss(),
        **config.distributed(arrange_task(config, inputs, recipe)),
    )


def arrange_task(config: FinetuneOptions, inputs: FinetuneInputs, recipe: Recipe) -> Arrangement:
    """Return the arrangement of a run, in which a pair of answers takes the memory of two sequences."""
    if config.task != "preference":
        return arrange(inputs.model, recipe, inputs.processes)
    processes = replace(inputs.processes, micro_batch_size=2 * inputs.processes.micro_batch_size)
    found = arrange(inputs.model, recipe.model_copy(update={"batch_size": 2 * recipe.batch_size}), processes)
    return found._replace(
        micro_batch_size=max(1, found.micro_batch_size // 2), eval_batch_size=max(1, found.eval_batch_size // 2)
    )
