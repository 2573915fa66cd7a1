/** What `put` and `get` do where a secret has protection EndToEnd: it is sealed and opened here, never on the server. */
import { Stalled } from "../core/errors.ts";
import { Sensitive } from "../core/sensitive.ts";
import { isSealedForReaders, openAs, sealFor } from "../core/vault/end-to-end.ts";
import type { Context, Place } from "./context.ts";
import { CommandError, EXIT } from "./errors.ts";
import { AcceptedKeys, type OwnKey, OwnKeys, type Reader, readOwnKey } from "./reader-keys.ts";

interface Summary {
  readonly project: string;
  readonly environment: string;
  readonly protection: "Managed" | "EndToEnd";
  readonly readers?: readonly Reader[];
}

interface Writing {
  /** MazeVault may read the values, whatever was known of the secret before. */
  readonly managed: boolean;
  /** The secret is made when it is not there, which is then none of those that are sealed. */
  readonly makes: boolean;
}

/** What the server gets: as it was given, or sealed for the readers whose keys were accepted. */
export async function sealedForReaders(
  { client, settings }: Context,
  place: Place,
  values: ReadonlyMap<string, Buffer>,
  { managed, makes }: Writing,
): Promise<ReadonlyMap<string, Buffer>> {
  const accepted = new AcceptedKeys(settings.folder, settings.server);
  const where = `${place.namespace}/${place.name}`;
  const wasSealed = accepted.wasSealed(place);
  const summary = await summaryOf(client, place, (exitCode) => {
    if (exitCode === EXIT.notFound) return true;
    if (exitCode !== EXIT.denied) return false;
    if (managed || makes) return true;
    const why = `without list on ${where} nobody can tell whether its values must be sealed for readers`;
    throw new CommandError(EXIT.denied, `nothing was sent: ${why}; --managed says that they need not be`);
  });
  if (summary?.protection === "EndToEnd") {
    const { readers = [], project, environment } = summary;
    accepted.assertAccepted(place.namespace, readers);
    const sealed = new Map<string, Buffer>();
    for (const [key, value] of values) {
      const text = await sealFor(readers, { project, environment, ...place, key }, new Sensitive(value));
      sealed.set(key, Buffer.from(text, "utf8"));
    }
    accepted.noteSealed(place);
    return sealed;
  }
  if (wasSealed && !managed) {
    throw new CommandError(
      EXIT.conflict,
      `nothing was sent: values of ${where} were sealed for its readers so far, and the server denies it now; if that is as it should be, --managed`,
    );
  }
  accepted.noteManaged(place);
  return values;
}

/** Values as they were before they were sealed; those of secrets that are not sealed as they are. */
export async function openedByReader(
  { client, settings }: Context,
  place: Place,
  values: Readonly<Record<string, string>>,
  readerKey?: string,
): Promise<Readonly<Record<string, string>>> {
  const sealed = Object.entries(values).filter(([, value]) =>
    isSealedForReaders(new Sensitive(Buffer.from(value, "base64"))),
  );
  if (sealed.length === 0) return values;
  const summary = await summaryOf(client, place, () => false);
  if (summary?.protection !== "EndToEnd") return values;
  const own = new OwnKeys(settings.folder);
  const keys = readerKey === undefined ? own.all() : [readOwnKey(readerKey)];
  if (keys.length === 0) {
    const where = `${place.namespace}/${place.name}`;
    throw new CommandError(
      EXIT.denied,
      `${where} is sealed for its readers, and there is no reader key in ${own.folder}`,
    );
  }
  const { project, environment } = summary;
  const opened = { ...values };
  for (const [key, value] of sealed) {
    const text = Buffer.from(value, "base64").toString("utf8");
    opened[key] = await openedByAny(keys, { project, environment, ...place, key }, text);
  }
  return opened;
}

/** In base64. */
async function openedByAny(
  keys: readonly OwnKey[],
  place: Parameters<typeof openAs>[1],
  text: string,
): Promise<string> {
  let refusal: Stalled | undefined;
  for (const { privateKey } of keys) {
    try {
      const value = await openAs(privateKey, place, text);
      return value.reveal().toString("base64");
    } catch (error) {
      if (!(error instanceof Stalled)) throw error;
      refusal = error;
    }
  }
  throw new CommandError(EXIT.denied, refusal?.message ?? "there is no reader key");
}

/** undefined where `passes` says that what the server answers is no reason to stop. */
async function summaryOf(
  client: Context["client"],
  { namespace, name }: Place,
  passes: (exitCode: number) => boolean,
): Promise<Summary | undefined> {
  try {
    return await client.get<Summary>(
      `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(name)}`,
    );
  } catch (error) {
    if (error instanceof CommandError && passes(error.exitCode)) return undefined;
    throw error;
  }
}
