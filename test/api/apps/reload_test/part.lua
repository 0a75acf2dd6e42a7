return { text = "one" }
