"""`lct claims`: does what the paper says hold? `lct power`: how many seeds show a difference?"""

import argparse
import math

from lct.checks import invalid, require
from lct.claims.judge import NOT_MEASURED, ClaimVerdict
from lct.claims.noise import seeds_needed, visible_difference
from lct.cli.options import Result, argument
from lct.cli.plans import selected_plan
from lct.config.claims import Claim, PublishedRows
from lct.config.folder import ConfigFolder
from lct.config.schema import plain
from lct.plan.files import claimed_tables
from lct.plan.names import nearest
from lct.report.claims import judged, prior_noise
from lct.report.tables import read


@argument("claims", nargs="*", metavar="CLAIM", help="ids of config/claims/ (default: all of them)")
def claims(arguments: argparse.Namespace) -> Result:
    """Does what the paper says hold? each claim, judged on every body of evidence."""
    plan = selected_plan(arguments)
    paths = (*claimed_tables(plan), plan.paths.tables("all"), plan.paths.tables())
    files = [arguments.root / path for path in paths]
    measured = [read(path) for path in files if path.exists()][:1]
    evidence, judgements = judged(arguments.root, measured)
    ids = [claim.id for claim, _ in judgements]
    if unknown := sorted(set(arguments.claims) - set(ids)):
        raise invalid("config/claims/", "the id of a claim", repr(unknown[0]), nearest(unknown[0], ids))
    chosen = [(claim, of) for claim, of in judgements if claim.id in (arguments.claims or ids)]
    lines = [line for claim, of in chosen for line in _lines(claim, of, detailed=bool(arguments.claims))]
    if not measured:
        command = f"snakemake claims --config scale={plan.scale_name}"
        lines.append(f"nothing is measured here at {plan.scale_name} scale: {command}")
    lines.append("statements and rows: config/claims/; rules: docs/protocol.md")
    titles = {body.id: body.title for body in evidence}
    keys = ("id", "statement", "place", "note", "ours")
    listed = [{key: plain(getattr(claim, key)) for key in keys} | {"verdicts": plain(of)} for claim, of in chosen]
    return 0, {"evidence": titles, "claims": listed}, "\n".join(lines)


def _lines(claim: Claim, verdicts: tuple[ClaimVerdict, ...], detailed: bool) -> list[str]:
    lines = [f"{claim.id}: {claim.statement}"]
    for verdict in verdicts:
        reason = verdict.command if verdict.verdict == NOT_MEASURED and verdict.command else verdict.deciding
        lines.append(f"  {verdict.body:<12} {verdict.verdict}" + (f" ({reason})" if reason else ""))
        for part in verdict.parts if detailed else ():
            reason = part.interval or part.why
            lines.append(f"    {part.verdict:<13} {part.text}" + (f": {reason}" if reason else ""))
    return lines


@argument("--difference", type=float, required=True, help="true difference of two FIDs, per cent of them")
@argument("--noise", type=float, help="run-to-run noise, per cent (default: the authors' repeated runs)")
def power(arguments: argparse.Namespace) -> Result:
    """How many training seeds a difference needs to be seen.

    Seeds on each side that show a difference with a probability of 80 %, and what 1 to 5 seeds can show."""
    config = ConfigFolder(arguments.root)
    prior = prior_noise(config, PublishedRows(config))
    noise = prior.sd if arguments.noise is None else arguments.noise / 100
    given = f"{arguments.difference:g} and {100 * noise:g}"
    require(arguments.difference > 0 and noise > 0, "--difference and --noise", "both above 0 %", given)
    seeds = seeds_needed(math.log1p(arguments.difference / 100), noise, prior.df)
    visible = {n: 100 * math.expm1(visible_difference(noise, n, prior.df + 2 * (n - 1), 1 / n)) for n in range(1, 6)}
    need = "more than 100 seeds" if seeds is None else f"{seeds} seed{'s' * (seeds > 1)}"
    lines = [f"a difference of {arguments.difference:g} % is seen with a probability of 80 % by {need} on each side"]
    lines += [f"  {n} seed{'s' * (n > 1)} on each side: differences of {v:.1f} % and more" for n, v in visible.items()]
    lines.append(f"run-to-run noise {100 * noise:.2g} % of the FID, {prior.df} degrees of freedom known before")
    return 0, {"seeds": seeds, "noise": noise, "visible_per_cent": visible}, "\n".join(lines)
