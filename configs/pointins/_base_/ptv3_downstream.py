"""Backbones of paper-scale downstream runs: the encoder of pre-training, a decoder."""

encoder = dict(
    type="PT-v3m2",
    in_channels=9,
    order=("z", "z-trans", "hilbert", "hilbert-trans"),
    stride=(2, 2, 2, 2),
    enc_depths=(3, 3, 3, 12, 3),
    enc_channels=(48, 96, 192, 384, 512),
    enc_num_head=(3, 6, 12, 24, 32),
    enc_patch_size=(1024, 1024, 1024, 1024, 1024),
    mlp_ratio=4,
    qkv_bias=True,
    qk_scale=None,
    attn_drop=0.0,
    proj_drop=0.0,
    drop_path=0.3,
    shuffle_orders=True,
    pre_norm=True,
    enable_rpe=False,
    enable_flash=True,
    upcast_attention=False,
    upcast_softmax=False,
    traceable=False,
    mask_token=False,
    enc_mode=True,
    freeze_encoder=False,
)
encoder_channels = 1232  # all levels

# merged over the encoder
decoder = dict(
    dec_depths=(2, 2, 2, 2),
    dec_channels=(64, 96, 192, 384),
    dec_num_head=(4, 6, 12, 24),
    dec_patch_size=(1024, 1024, 1024, 1024),
    enc_mode=False,
    freeze_encoder=True,
)
decoder_channels = 64
