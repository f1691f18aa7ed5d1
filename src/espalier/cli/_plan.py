"""``espalier plan``: the dry run."""

from espalier.cli._output import AsJson, RecipeFile, Settings, advise, console, print_json


def plan(recipe: RecipeFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say what would be pruned and what it saves; nothing is trained.

    Which parameters, how much of each, what is left under every counting convention, and which runtime can
    use it.
    """
    from espalier.recipe import load
    from espalier.recipe._running import Job

    job = Job.prepare(*load(recipe, settings or ()))
    seeds = job.recipe.compare.seeds
    chance = [
        "one seed: what differs between two runs may be chance; set compare.seeds to 3 or more"
    ]
    advise([*job.advice(), *(chance if seeds == 1 else [])])
    if as_json:
        print_json(
            {**job.plan.to_dict(), "counts": job.plan.counts().to_dict(),
             "macs": {"dense": job.plan.macs, "left": job.plan.macs_left}}
        )  # fmt: skip
        return
    out = console()
    out.print(job.plan.table())
    if job.recipe.plan.searches:
        out.print(
            "The budget shown is even; the run searches for its shares once its weights are trained."
        )
    elif job.recipe.pretrain is not None and job.recipe.plan.looks_at_weights:
        out.print("This budget looks at the weights and will be made again after pretraining.")
