"""Engines to price on, from the GPUs' sheets: Llama 3.1 8B in fp8 on an H100 and in int4 on an L4, 70B in fp8 on two H100.

Figures: NVIDIA aiconfigurator `systems/*.yaml` and model configurations @095f58a (Apache-2.0).
"""

from router.pricing.price import LeasedPrice, Purchase
from router.pricing.profile import roofline_profile

H100_8B = roofline_profile(
    parameters_billion=8.03,
    layers=32,
    kv_bytes_per_token=131_072,
    weight_bytes_per_parameter=1,
    memory_gb=80,
    bandwidth_gb_per_second=3350,
    tflops=1978,
)
H100X2_70B = roofline_profile(
    parameters_billion=70.6,
    layers=80,
    kv_bytes_per_token=327_680,
    weight_bytes_per_parameter=1,
    memory_gb=160,
    bandwidth_gb_per_second=6700,
    tflops=3956,
)
L4_8B = roofline_profile(
    parameters_billion=8.03,
    layers=32,
    kv_bytes_per_token=131_072,
    weight_bytes_per_parameter=0.5,
    memory_gb=24,
    bandwidth_gb_per_second=300,
    tflops=121,
)
H100_HOUR = LeasedPrice("central-h100@2026-05-07#00000000", 3_780_000_000, Purchase.ON_DEMAND)
L4_HOUR = LeasedPrice("edge-l4@2026-05-07#00000000", 799_200_000, Purchase.ON_DEMAND)
