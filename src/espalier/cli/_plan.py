"""``espalier plan``: the dry run."""

from espalier.cli._output import AsJson, RecipeFile, Settings, advise, console, print_json


def plan(recipe: RecipeFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say what would be pruned and what it saves; nothing is trained.

    Which parameters, how much of each, what is left under every counting convention, and which runtime can
    use it.
    """
    from espalier.errors import DataError, RecipeError
    from espalier.recipe import load
    from espalier.recipe._published import counted
    from espalier.recipe._running import Job
    from espalier.recipe._without_data import plan_without_data, source

    asked, content = load(recipe, settings or ())
    try:
        job = Job.prepare(asked, content)
    except (DataError, RecipeError) as missing:
        found = plan_without_data(asked)
        if found is None:
            raise
        advise(
            [
                f"planned without the data, for one input of the model's usual size: {missing}",
                source(asked),
            ]
        )
        if as_json:
            print_json({**found.to_dict(), "counts": found.counts().to_dict()})
            return
        console().print(found.table())
        print(*counted(asked, found), sep="\n", end="")
        return
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
    print(*counted(asked, job.plan), sep="\n", end="")
    if job.recipe.plan.searches:
        out.print(
            "The budget shown is even; the run searches for its shares once its weights are trained."
        )
    elif job.recipe.pretrain is not None and job.recipe.plan.looks_at_weights:
        out.print("This budget looks at the weights and will be made again after pretraining.")
