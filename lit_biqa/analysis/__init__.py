"""Why a model that names quality levels answers as it does, and how steadily."""
