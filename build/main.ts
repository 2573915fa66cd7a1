/** `npm run build`: the programs as they ship, in `dist/`. */
import { rmSync } from "node:fs";
import path from "node:path";
import { bundle } from "./bundle.ts";

const directory = path.join(import.meta.dirname, "../dist");
rmSync(directory, { recursive: true, force: true });
await bundle(directory);
