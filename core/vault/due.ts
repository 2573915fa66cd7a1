/**
 * When generated entries get new values: by a timetable, in windows, or because somebody asks.
 *
 * All of it follows from the record that was committed with the last rotation, so that neither a restart nor another
 * leader forgets one or does it twice. The next time is counted from that record and never from now: however many times
 * were missed, one rotation makes up for them, and a clock that is set back finds nothing due.
 */
import { Cron } from "croner";
import { type RotationSpec, type RotationWindow, type SecretSpec, WEEKDAYS } from "../../crds/secret.ts";
import { durationMs } from "../duration.ts";
import { Stalled } from "../errors.ts";
import type { RotationRecord, SecretRecord } from "../ports/vault-store.ts";

/** Why a version was made, for its audit row. */
export type RotationCause =
  | { readonly kind: "Timetable"; readonly timetable: string; readonly due: Date }
  /** `token`: value of the annotation; absent where the request itself is authenticated. */
  | { readonly kind: "Request"; readonly token?: string }
  /** What logs in elsewhere has no value yet that counts there. */
  | { readonly kind: "First" };

export type RotationPlan =
  /** `next` is absent when nothing but a request brings one about. */
  | { readonly kind: "Settled"; readonly next?: Date }
  | { readonly kind: "Rotate"; readonly keys: readonly string[]; readonly cause: RotationCause; readonly next?: Date }
  /** The manifest asks for something else than before: from now on that counts. */
  | { readonly kind: "Change"; readonly rotation: RotationRecord; readonly next?: Date };

const DEFAULT_ZONE = "UTC";
const DAY_MS = 86_400_000;
const MOST_JITTER_MS = 3_600_000;
/** A time so far ahead was told by a clock that was wrong. */
const AHEAD_MS = DAY_MS;

const timetableOf = ({ every, schedule, timeZone = DEFAULT_ZONE }: RotationSpec): string =>
  every === undefined ? `${schedule} ${timeZone}` : `every ${every}`;

/** Generated entries, or those among them that the manifest names, as far as the current version has them. */
export function rotatableKeys(
  { entries, rotation }: Pick<SecretSpec, "entries" | "rotation">,
  record: Pick<SecretRecord, "entries">,
): readonly string[] {
  const stored = new Set(record.entries.map(({ key }) => key));
  const named = rotation?.keys;
  return entries
    .filter(({ key, generate }) => generate !== undefined && stored.has(key) && (named?.includes(key) ?? true))
    .map(({ key }) => key);
}

/** Of a secret that is stored for the first time: its values are new, so a request that stands there is met. */
export function firstRotation(
  { rotation }: Pick<SecretSpec, "rotation">,
  request: string | undefined,
  now: Date,
): RotationRecord | undefined {
  if (rotation === undefined && request === undefined) return undefined;
  return {
    ...(rotation !== undefined && { timetable: timetableOf(rotation) }),
    since: now,
    ...(request !== undefined && { request }),
    held: [],
  };
}

/**
 * @param request token of whoever asks for one now; the record tells whether it was handled
 * @throws Stalled RotationInvalid
 */
export function planRotation(
  spec: Pick<SecretSpec, "entries" | "rotation">,
  request: string | undefined,
  record: Pick<SecretRecord, "id" | "entries" | "rotation">,
  now: Date,
): RotationPlan {
  const { rotation: asked } = spec;
  const before = record.rotation;
  const keys = rotatableKeys(spec, record);
  const timetable = asked && timetableOf(asked);
  if (request !== undefined && request !== before?.request && keys.length > 0) {
    return { kind: "Rotate", keys, cause: { kind: "Request", token: request } };
  }
  const changes = before?.timetable !== timetable || (before !== undefined && isAhead(before, now));
  const current = changes ? changed(before, timetable, now) : before;
  const due = asked && current && dueAt(asked, current, record.id);
  const next = asked && due && opensAt(asked, due > now ? due : now);
  const shown = next === undefined ? {} : { next };
  if (changes && current !== undefined) return { kind: "Change", rotation: current, ...shown };
  if (due === undefined || next === undefined || timetable === undefined || keys.length === 0) {
    return { kind: "Settled", ...shown };
  }
  // A window may be open although it is not due, and the other way round.
  if (due > now || next > now) return { kind: "Settled", ...shown };
  return { kind: "Rotate", keys, cause: { kind: "Timetable", timetable, due }, ...shown };
}

const isAhead = ({ since, at = since }: RotationRecord, now: Date): boolean =>
  Math.max(since.getTime(), at.getTime()) > now.getTime() + AHEAD_MS;

function changed(before: RotationRecord | undefined, timetable: string | undefined, now: Date): RotationRecord {
  const { timetable: _, at, ...others } = before ?? { held: [] };
  return {
    ...others,
    ...(timetable !== undefined && { timetable }),
    since: now,
    ...(at !== undefined && { at: at > now ? now : at }),
  };
}

/**
 * When it is due after what the record tells, whether or not that has passed.
 *
 * @throws Stalled RotationInvalid
 */
function dueAt(asked: RotationSpec, { since, at = since }: RotationRecord, id: string): Date {
  if (asked.every !== undefined) {
    const everyMs = durationMs(asked.every);
    const spread = Math.min(everyMs / 10, MOST_JITTER_MS);
    // A shorter period makes many due at once: these are spread, too.
    const latest = Math.max(at.getTime() + everyMs, since.getTime() + spread);
    return new Date(Math.round(latest - spread * fractionOf(id)));
  }
  const { schedule = "", timeZone = DEFAULT_ZONE } = asked;
  assertZone(timeZone);
  const due = cron(schedule, timeZone).nextRun(at > since ? at : since);
  if (due === null) throw invalid("schedule", `${schedule} is never due`);
  return due;
}

/** From 0 to below 1, for ever the same, and different between secrets: ids are random. */
const fractionOf = (id: string): number => Number.parseInt(id.slice(0, 8), 16) / 2 ** 32;

function cron(schedule: string, timezone: string): Cron {
  try {
    return new Cron(schedule, { timezone, mode: "5-part", paused: true });
  } catch {
    throw invalid("schedule", `${schedule} is not what cron understands; write for example 0 3 1 * *`);
  }
}

function assertZone(timeZone: string): void {
  try {
    Temporal.Now.zonedDateTimeISO(timeZone);
  } catch {
    throw invalid("timeZone", `${timeZone} is no time zone that is known here; write for example Europe/Berlin`);
  }
}

const invalid = (field: keyof RotationSpec, what: string): Stalled =>
  new Stalled("RotationInvalid", `spec.rotation.${field}: ${what}`);

/** The first moment from `from` on at which a window is open. */
function opensAt({ windows, timeZone = DEFAULT_ZONE }: RotationSpec, from: Date): Date {
  if (windows === undefined) return from;
  assertZone(timeZone);
  const time = from.getTime();
  const today = Temporal.Instant.fromEpochMilliseconds(time).toZonedDateTimeISO(timeZone).toPlainDate();
  // The one that opened yesterday may be open still; one that the clocks skip this week is there in the next.
  for (let days = -1; days <= 2 * WEEKDAYS.length; days++) {
    const day = today.add({ days });
    const opening = windows.flatMap((window) => {
      const span = spanOn(day, window, timeZone);
      return span === undefined || span.closes <= time ? [] : [Math.max(span.opens, time)];
    });
    // One of a later day does not open before one of this day.
    if (opening.length > 0) return new Date(Math.min(...opening));
  }
  throw invalid("windows", "none ever opens");
}

/** Milliseconds since 1970; undefined on a day on which it does not open, also because the clocks skip it. */
function spanOn(
  day: Temporal.PlainDate,
  { days, from, to }: RotationWindow,
  timeZone: string,
): { readonly opens: number; readonly closes: number } | undefined {
  const weekday = WEEKDAYS[day.dayOfWeek - 1];
  if (weekday === undefined || !(days?.includes(weekday) ?? true)) return undefined;
  const at = (date: Temporal.PlainDate, plainTime: string) =>
    date.toZonedDateTime({ timeZone, plainTime }).epochMilliseconds;
  const opens = at(day, from);
  const closes = at(to > from ? day : day.add({ days: 1 }), to);
  return closes > opens ? { opens, closes } : undefined;
}
