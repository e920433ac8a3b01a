"""`lct plan`: what a scale would cost, before; and after, what was planned against what it took."""

import argparse

from lct.cli.options import all_tables_argument, overrides, plan_arguments, which
from lct.cli.verb import Result
from lct.cluster.forecast import forecast
from lct.cluster.rates import planned_machine
from lct.plan.plan import Plan


def arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    all_tables_argument(parser)
    parser.add_argument(
        "--device", help="of config/devices/, or a GPU such as a100 (default: this machine, or an a100 at paper scale)"
    )
    parser.add_argument("--target", help="a target of snakemake instead of the tables: pilot, or a name as in --only")
    parser.add_argument("--gpus", type=int, default=1, help="devices that work at once (default: 1)")
    parser.add_argument("--price", type=float, help="money per device and hour")
    parser.add_argument("--max-gpu-hours", type=float, help="warn when the scale costs more; nothing is refused")


def plan_verb(arguments: argparse.Namespace) -> Result:
    if arguments.gpus < 1:
        raise ValueError(f"--gpus: expected 1 or more, found {arguments.gpus}")
    plan = Plan(arguments.root, overrides(arguments))
    graph = f"snakemake -n {plan.snakemake_options}"
    if arguments.target == "pilot" and not plan.pilot:
        raise ValueError(f"--target pilot: expected a scale with a pilot, found {plan.scale_name}; take --scale paper")
    if arguments.target is not None:
        rows = ",".join(plan.scale.pilot) if arguments.target == "pilot" else arguments.target
        graph = f"snakemake -n {arguments.target} {plan.snakemake_options}"
        plan = Plan(arguments.root, overrides(arguments) | {"only": rows})
    device = planned_machine(arguments.root, arguments.device, plan.scale.comparable)
    limits = (arguments.price, arguments.max_gpu_hours)
    value, lines = forecast(plan, arguments.root, device, which(arguments), arguments.gpus, *limits)
    return 0, value, "\n".join([*lines, f"the graph it is about: {graph}"])
