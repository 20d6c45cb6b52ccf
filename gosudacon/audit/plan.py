"""The plan of a container that exists, made anew, and what its steps expect."""

from __future__ import annotations

from gosudacon.audit.verdict import UNSEEN, Finding
from gosudacon.base.errors import reason
from gosudacon.linux.mount import normal
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.step import ORDER, START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.audit.containers import Found
    from gosudacon.pipeline.expectation import Expectation
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.spec import Host
    from gosudacon.pipeline.step import Step


class Asked:
    """What each step of a plan expects, and of which steps nothing can be seen."""

    def __init__(self, found: Found, host: Host, config_file: str = "", use_snapshot: bool = True) -> None:
        """Raises `Error` for a configuration that has no plan on this host."""
        self.plan = _compile(found, host, config_file, use_snapshot)
        self.expected: list[tuple[int, Step, Expectation]] = []
        self.silent: list[Finding] = []  # of steps that do not say what they expect
        self.traceless: list[tuple[int, str, str]] = []  # (number, description, why nothing of it can be seen)
        for number, step in enumerate(self.plan.steps, 1):
            if ORDER[step.phase] > ORDER[START]:
                continue
            self._take(number, step, found, host)
        self._leave_out_covered()

    def _leave_out_covered(self) -> None:
        """A mount that a later one of the configuration covers cannot be seen, and needs not."""
        places = [
            (index, normal(wanted.key))
            for index, (_, _, wanted) in enumerate(self.expected)
            if wanted.reader == "mount" and isinstance(wanted.asked, dict) and "fstype" in wanted.asked
        ]
        covered = {
            index: place
            for index, place in places
            if any(later > index and f"{place}/".startswith(f"{other}/") for later, other in places if other != "/")
        }
        for index, place in covered.items():
            number, step, wanted = self.expected[index]
            note = "a later mount of the configuration covers it"
            finding = Finding(wanted.where, place, "", UNSEEN, "", note=note)
            finding.number, finding.step = number, step.describe()
            self.silent.append(finding)
        self.covered = {*covered.values()}
        gone = {self.expected[index][2].where for index in covered}  # what is done to it later is not seen either
        self.expected = [entry for entry in self.expected if entry[2].reader != "mount" or entry[2].where not in gone]

    def _take(self, number: int, step: Step, found: Found, host: Host) -> None:
        why = "this kind of step does not say what it expects"
        try:
            expected = step.expect(found.spec, host)
            wanted = [] if isinstance(expected, str) else list(expected)
        except Exception as error:  # noqa: BLE001 - a plugin's step may raise anything
            expected, why, wanted = "", f"its expectation failed: {reason(error)}", []
        self.expected += [(number, step, each) for each in wanted]
        if expected == "":
            finding = Finding(step.where or step.stage, step.describe(), "", UNSEEN, "", note=why)
            finding.number, finding.step = number, step.describe()
            self.silent.append(finding)
        elif isinstance(expected, str):
            self.traceless.append((number, step.describe(), expected))


def _compile(found: Found, host: Host, config_file: str, use_snapshot: bool) -> Plan:
    """Our own containers' configuration has plugins' edits in it already; another runtime knows none of our plugins."""
    stages = registry(config_file, use_snapshot)
    if found.runtime == "gosudacon":
        return stages.plan(found.spec, host, plans.make)
    return plans.make(stages.stages(found.spec), found.spec, host)
