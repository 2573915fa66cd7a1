/**
 * A process that rotates as the leader does: `node rotate.ts <database> <epoch> <project | installation | root>`, the root
 * key on its input, for `root` the next and the present one. Prints that it begins, and rows left.
 */
import { createSecretKey } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { KeyRotation } from "../../../core/vault/rotation.ts";
import { LocalRootKey } from "../../rootkey/local-root-key.ts";
import { openStores } from "../stores.ts";

const [, , database = "", epoch = "", what = ""] = process.argv;
const given = await buffer(process.stdin);
const [root, previous] = [given.subarray(0, 32), given.subarray(32)].map((bytes) =>
  bytes.length === 0 ? undefined : new LocalRootKey("test", createSecretKey(bytes)),
);
if (root === undefined) throw new Error("a root key is expected on standard input");
const { keys, keyStore, vault, close } = await openStores(JSON.parse(database), root, previous);
const ages = { installationMs: Number.MAX_SAFE_INTEGER / 2, projectMs: Number.MAX_SAFE_INTEGER / 2 };
const rotation = new KeyRotation({ keys, store: keyStore, vault, ages });
const writer = { epoch: BigInt(epoch) };
console.log("begins");
if (what === "root") await rotation.replaceRoot(writer);
else {
  const project = what === "installation" ? undefined : what;
  await rotation.rotate(writer, project, { kind: "Controller", name: "test" });
  await rotation.advance(writer);
}
console.log(`left ${rotation.progress.left}`);
await close();
