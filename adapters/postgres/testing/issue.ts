/** A process that makes a CA and issues one certificate: `node issue.ts <database> <epoch>`, the root key on its input. */
import { createSecretKey } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { Authorities } from "../../../core/pki/authority.ts";
import { leafRequest, rootSpec } from "../../../core/pki/testing/installation.ts";
import { LocalRootKey } from "../../rootkey/local-root-key.ts";
import { openStores } from "../stores.ts";

const [, , database = "", epoch = ""] = process.argv;
const root = new LocalRootKey("test", createSecretKey(await buffer(process.stdin)));
const { pki: store, keys, audit, close } = await openStores(JSON.parse(database), root);
const authorities = new Authorities({ store, keys, audit });
const writer = { epoch: BigInt(epoch) };
const authority = await authorities.ensure(writer, rootSpec("root"));
await authorities.issue(writer, leafRequest(authority, "uid"));
await close();
