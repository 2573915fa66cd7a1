/** Secrets: what there is, their values, their versions. A value leaves only after its read is on record. */
import { deletionRoutes } from "./deletion.ts";
import { exportRoutes } from "./export.ts";
import { readingRoutes } from "./reading.ts";
import { versionRoutes } from "./versions.ts";
import { writingRoutes } from "./writing.ts";

export const secretRoutes = [...readingRoutes, ...writingRoutes, ...versionRoutes, ...deletionRoutes, ...exportRoutes];
