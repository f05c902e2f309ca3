"""`jhod` without an object: one out of nothing for each seed, and grasps of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from grasp_nodes.contact.interaction import Grasp, GraspGenerator, GraspSet
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import check_request
from grasp_nodes.synthesis.jhod.generator import JhodGenerator, JhodSettings
from grasp_nodes.synthesis.jhod.imagination import Imagination, ImagineSettings
from grasp_nodes.synthesis.jhod.trained import METHOD, load_jhod


class OwnHandFirst:
    """Proposes grasps of an object that was imagined with a hand: that hand in the place of the first one.

    Args:
        own: the hand. seed: that both were imagined with; of another one there are other hands alone.
        others: makes the other grasps.
    """

    def __init__(self, own: Grasp, seed: int, others: GraspGenerator) -> None:
        self._own, self._seed, self._others = own, seed, others

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps of the object that was imagined.

        Raises:
            InputError: a count below 1, or a negative seed.
        """
        check_request(count, seed)
        start = time.perf_counter()
        found = self._others.generate(object_model, count, seed)
        if seed == self._seed:
            found = replace(found, grasps=[self._own, *found.grasps[1:]])
        return replace(found, duration=time.perf_counter() - start)


@dataclass(frozen=True)
class JointGenerator:
    """Makes objects and grasps of them.

    imagination: of an object with a hand. grasping: of more hands for it. device: that networks run on.
    version: of weights and settings.
    """

    imagination: Imagination
    grasping: JhodGenerator
    device: str
    version: str

    def imagine(self, seed: int) -> tuple[ObjectModel, GraspGenerator]:
        """An object, in the frame of its principal axes, and what makes grasps of it; the same for the same seed.

        Raises:
            InputError: as `Imagination.one_object`.
        """
        model, own = self.imagination.one_object(seed)
        return model, OwnHandFirst(own, seed, self.grasping)


def make_joint_jhod(
    models: Mapping[Side, HandModel],
    imagining: ImagineSettings | None = None,
    grasping: JhodSettings | None = None,
    name: str = METHOD,
) -> JointGenerator:
    """The method as it is registered.

    Raises:
        MissingFileError: its weights are not there. InputError: they are damaged, or of another hand.
    """
    trained = load_jhod(models["right"])
    imagination = Imagination(trained, models, imagining)
    generator = JhodGenerator(trained, models, grasping, name)
    settings = hashlib.sha256(repr((imagination.settings, generator.settings)).encode()).hexdigest()[:8]
    return JointGenerator(imagination, generator, str(models["right"].device), f"{trained.version} {settings}")
