"""Things that no street holds: asked of a map, they tell how high a phrase scores that is not there."""

from __future__ import annotations

ABSENT_THINGS: tuple[str, ...] = (
    "piano", "giraffe", "submarine", "teapot", "bathtub", "octopus", "violin", "microwave oven", "refrigerator",
    "elephant", "penguin", "sofa", "bookshelf", "toothbrush", "pizza", "banana", "chandelier", "telescope",
    "wedding cake", "chessboard", "snowman", "igloo", "volcano", "iceberg", "pyramid", "hot air balloon",
    "parachute", "space shuttle", "satellite", "astronaut", "dinosaur", "dragon", "mermaid", "shark", "jellyfish",
    "coral reef", "sailboat", "canoe", "anchor", "surfboard", "ski lift", "roller coaster", "ferris wheel",
    "trampoline", "swimming pool", "bowling ball", "golf club", "tennis racket", "boxing ring", "barbell",
    "treadmill", "sewing machine", "washing machine", "toaster", "frying pan", "wine glass", "beer mug",
    "ice cream", "cheeseburger", "sushi", "salad bowl", "apple pie", "pineapple", "watermelon", "mushroom",
    "cactus", "sunflower", "orchid", "butterfly", "bumblebee", "spider", "snake", "crocodile", "kangaroo",
    "polar bear", "tiger", "zebra", "camel", "owl", "goldfish", "hamster", "guitar", "trumpet", "drum kit",
    "accordion", "microphone", "headphones", "film projector", "television", "keyboard", "computer mouse",
    "printer", "desk lamp", "office chair", "filing cabinet", "stapler", "scissors", "pencil", "blackboard",
    "globe", "microscope", "test tube", "syringe", "hospital bed", "stethoscope", "pillow", "blanket", "wardrobe",
    "hair dryer", "lipstick", "perfume bottle", "diamond ring", "wristwatch", "necktie", "high heels",
    "teddy bear", "doll house", "jigsaw puzzle", "birthday candle", "christmas stocking", "fireworks", "campfire",
    "hammock", "sleeping bag", "fishing rod", "rifle", "cannon", "sword", "suit of armour", "gravestone",
    "stained glass", "oil rig", "mine shaft", "power drill", "hammer", "wrench", "waterfall", "sand dune",
    "rice field", "vineyard", "beehive", "aquarium", "cradle", "bunk bed", "fireplace", "kitchen sink", "toilet",
    "shower curtain", "soap dish",
)  # fmt: skip
"""Plain nouns of many kinds, chosen before anything was measured. Replace them where your recordings hold some."""
