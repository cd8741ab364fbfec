"""Testing of panoptic models on whole scans."""

from typing import Any

from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.evaluation.panoptic_scene import add_scene, panoptic_scenes

from .batches import to_numpy
from .env import in_evaluation
from .registry import TESTERS
from .testers import TesterBase

_MEANS = ("pq", "pq_dagger", "sq", "rq", "miou", "pq_things", "pq_stuff")
_ROWS = ("pq", "sq", "rq", "iou")


@TESTERS.register_module()
class PanopticTester(TesterBase):
    """Predict the panoptic segments of whole scans and score them by PQ.

    Args:
        min_points: unmatched segments of fewer points are no errors.
        **kwargs: as in ``TesterBase``.

    Things are ``data.things``. Every original point is scored, as by
    ``PanopticEvaluator``.
    """

    report = "panoptic.json"

    def __init__(self, min_points: int = 50, **kwargs: Any):
        super().__init__(**kwargs)
        self.min_points = min_points

    def test_scene(self, batch: dict) -> tuple[str, PanopticQuality]:
        output = in_evaluation(self.model, self.to_device(batch))
        predicted = {k: output[k] for k in ("pred_segment", "pred_instance")}
        (scene,) = panoptic_scenes(to_numpy(batch), to_numpy(predicted))
        score = self._quality()
        add_scene(score, scene, type(self).__name__)
        return scene["name"], score

    def _quality(self) -> PanopticQuality:
        names = list(self.cfg.data.names)
        things = [names.index(name) for name in self.cfg.data.things]
        return PanopticQuality(len(names), (), self.min_points, things)

    def score(self, scenes: list[PanopticQuality]) -> dict[str, Any]:
        total = self._quality()
        for scene in scenes:
            total.merge(scene)
        scores = total.compute()
        values = "/".join(f"{scores[key]:.4f}" for key in _MEANS[:5])
        self.logger.info(f"Test result: PQ/PQ+/SQ/RQ/mIoU {values}")
        return {
            **{key: 100 * scores[key] for key in _MEANS},
            "min_points": self.min_points,
            "classes": {
                name: dict(zip(_ROWS, (100 * column).tolist(), strict=True))
                for name, column in zip(
                    self.cfg.data.names, scores["per_class"].T, strict=True
                )
            },
        }
