"""PointINS on Sonata, on nuScenes: the offset branch beside Sonata's objective.

Backbone, schedule, data and branch are those of nuscenes-pretrain; the objective, the
mask token and the local views are those of Pointcept's Sonata-v1m1.
"""

from pointins_plugin.lidar_recipes import pretrain

_base_ = ["nuscenes-pretrain.py"]

grid_size = 0.05

model = dict(
    backbone=dict(mask_token=True),
    semantic=dict(
        _delete_=True,
        type="SonataObjective",
        hidden_channels=4096,
        embed_channels=256,
        num_prototypes=4096,
        teacher_temp_start=0.04,
        teacher_temp_base=0.07,
        teacher_temp_warmup_ratio=0.05,
        student_temp=0.1,
        num_iters=3,
        mask_loss_weight=2 / 8,
        roll_mask_loss_weight=2 / 8,
        unmask_loss_weight=4 / 8,
    ),
    num_local_view=4,
    mask_jitter=0.025,  # half a cell
)

transform = pretrain(
    grid_size,
    max_size=32768,
    crop=dict(type="RangeCrop", near=2.0, far=60.0, center=(0.94, 0.0)),
    local_views=4,
)
data = dict(train=dict(transform=transform))

del pretrain
