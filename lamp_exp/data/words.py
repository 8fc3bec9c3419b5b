"""The words of the made-up sample: no word stands in two lists."""

TOPICS = (
    ("rose", "tulip", "shovel", "soil", "seed", "hedge"),
    ("oven", "recipe", "flour", "spoon", "butter", "soup"),
    ("sailor", "anchor", "harbor", "wave", "whale", "ship"),
    ("violin", "melody", "drum", "concert", "singer", "piano"),
    ("rocket", "planet", "comet", "orbit", "telescope", "astronaut"),
    ("judge", "lawyer", "trial", "verdict", "jury", "witness"),
    ("nurse", "doctor", "patient", "surgery", "clinic", "fever"),
    ("teacher", "pupil", "lesson", "exam", "classroom", "homework"),
    ("goal", "striker", "referee", "stadium", "keeper", "league"),
    ("bank", "loan", "market", "broker", "profit", "stock"),
    ("storm", "rain", "thunder", "cloud", "snow", "wind"),
    ("summit", "glacier", "climber", "cliff", "valley", "ridge"),
    ("keyboard", "server", "program", "screen", "software", "network"),
    ("tractor", "barn", "cattle", "wheat", "harvest", "plough"),
    ("knight", "king", "sword", "tower", "queen", "moat"),
    ("actor", "stage", "curtain", "audience", "script", "drama"),
    ("train", "station", "ticket", "engine", "platform", "tunnel"),
    ("canvas", "brush", "gallery", "portrait", "colour", "museum"),
    ("oak", "deer", "fox", "mushroom", "moss", "owl"),
    ("camel", "dune", "cactus", "oasis", "sand", "caravan"),
    ("voter", "ballot", "senator", "campaign", "party", "debate"),
    ("bride", "groom", "ring", "cake", "vow", "dress"),
    ("wheel", "pedal", "helmet", "chain", "brake", "saddle"),
    ("bread", "pastry", "dough", "croissant", "biscuit", "yeast"),
)
ADJECTIVES = (
    "old", "new", "quiet", "bright", "small", "heavy", "early", "late", "strange", "gentle",
    "broken", "famous", "hidden", "narrow", "empty", "golden", "rapid", "silent", "modern",
    "distant",
)
VERBS = (
    "follows", "meets", "finds", "leaves", "changes", "carries", "watches", "answers",
    "crosses", "reaches", "repeats", "supports", "avoids", "covers", "joins",
)
PLACES = (
    "bridge", "corner", "river", "square", "window", "street", "village", "wall", "road",
    "island", "lake", "door", "hill", "park",
)
TASTES = (
    "secret", "grand", "simple", "wild", "brief", "curious", "honest", "lucky", "noble",
    "plain", "proud", "sudden", "tender", "vivid", "weary", "bold", "calm", "daring", "eager",
    "fierce", "humble", "jolly", "keen", "lively", "merry", "rare", "sharp", "swift", "true",
    "urgent", "vast", "warm", "young", "brave", "clever", "deep", "fair", "great", "happy",
)
OPENINGS = (
    "well", "honestly", "listen", "wow", "sigh", "yay",
)
ENDINGS = (
    "lol", "cheers", "indeed", "hooray", "please", "anyway",
)
