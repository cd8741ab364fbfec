"""Every key a run needs, with the values most configs keep."""

custom_imports = dict(imports=["pointins_plugin"], allow_failed_imports=False)

weight = None  # checkpoint to start from
resume = False  # go on with the run of save_path
evaluate = False  # evaluate data.val after epochs
test_only = False

seed = None  # None draws one and writes it to config.py
save_path = "exp/default"
num_worker = 0  # worker processes in all
num_threads = None  # threads of a process, None leaves torch's choice
batch_size = 2  # scenes a step over all processes
batch_size_val = None
batch_size_test = None
epoch = 10  # passes over the data
eval_epoch = 10  # epochs of the trainer: evaluation and checkpoint after each
clip_grad = None
gradient_accumulation_steps = 1

sync_bn = False
enable_amp = False
amp_dtype = "float16"
empty_cache = False
empty_cache_per_epoch = False
find_unused_parameters = False

enable_wandb = False
wandb_project = "pointins"
wandb_key = None

mix_prob = 0
param_dicts = None

train = dict(type="DefaultTrainer")
test = dict(type="SemSegTester", verbose=True)
