// Says whether a file is a valid OpenAPI document: node validate.mjs FILE
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";

const validator = new Validator();
const result = await validator.validate(JSON.parse(readFileSync(process.argv[2], "utf8")));
if (result.valid) console.log("valid", validator.version);
else console.log("invalid", JSON.stringify(result.errors).slice(0, 2000));
process.exit(result.valid ? 0 : 1);
