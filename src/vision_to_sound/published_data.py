"""What the published data sets hold: names, lengths, rates. Standard library only: the Snakefile imports this."""

# UrbanSound8K (Salamon 2014), in the order of its class ids.
URBANSOUND8K_CLASSES = tuple(
    "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren "
    "street_music".split()
)
URBANSOUND8K_CLIP_S = 4.0  # its longest slices

# ESC-50 (Piczak 2015), in the order of its targets.
ESC50_CLASSES = tuple(
    "dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets chirping_birds "
    "water_drops wind pouring_water toilet_flush thunderstorm crying_baby sneezing clapping breathing coughing "
    "footsteps laughing brushing_teeth snoring drinking_sipping door_wood_knock mouse_click keyboard_typing "
    "door_wood_creaks can_opening washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter "
    "chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw".split()
)

# Those of them that EnvMix takes its events from; synthetic archives know no others.
ENVMIX_EVENTS = tuple(
    "dog rooster frog sheep sneezing clapping coughing laughing snoring door_wood_knock door_wood_creaks "
    "can_opening washing_machine clock_alarm glass_breaking car_horn fireworks".split()
)

# MIMII (Purohit 2019), what its archives of each SNR hold.
MIMII_TYPES = ("fan", "pump", "slider", "valve")
MIMII_IDS = (0, 2, 4, 6)
MIMII_CLIP_S = 10.0
MIMII_RATE_HZ = 16_000
