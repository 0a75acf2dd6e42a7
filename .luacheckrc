std = "lua54"
max_line_length = 140
globals = {}
read_globals = { "all", "every", "sleep", "spawn" }
exclude_files = { "build" }
files["test/api"] = { max_line_length = 200 }
files["test/api/apps"] = { ignore = { "111", "241" } }          -- scripts that misbehave
files["lua/omade/globals.lua"] = { ignore = { "121", "212" } }   -- declarations only
