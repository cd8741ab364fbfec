"""Backbones of small downstream runs: the encoder of demo- and mosd-pretrain."""

encoder = dict(
    type="PT-v3m2",
    in_channels=9,
    order=("z", "z-trans", "hilbert", "hilbert-trans"),
    stride=(2, 2, 2),
    enc_depths=(1, 1, 1, 1),
    enc_channels=(32, 64, 128, 128),
    enc_num_head=(2, 4, 8, 8),
    enc_patch_size=(128, 128, 128, 128),
    mlp_ratio=2,
    drop_path=0.0,
    shuffle_orders=True,
    enable_flash=False,
    traceable=True,
    enc_mode=True,
    freeze_encoder=False,
)
encoder_channels = 352  # all levels

# merged over the encoder
decoder = dict(
    dec_depths=(1, 1, 1),
    dec_channels=(64, 64, 128),
    dec_num_head=(4, 4, 8),
    dec_patch_size=(128, 128, 128),
    traceable=False,
    enc_mode=False,
    freeze_encoder=True,
)
decoder_channels = 64
