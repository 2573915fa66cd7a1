/** Seeded changes to octets; the same ones for the same seed everywhere. */

/** Whole numbers, at least 0, less than `below`. */
export type Random = (below: number) => number;

/** A linear congruential generator, as in Numerical Recipes. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Octets that mean something in DER: lengths, and the tags of what we read. */
const TELLING = Buffer.from("00017f80818284ff0203060c3031a0a3", "hex");

/** One to four changes: an octet, a bit, octets out, octets in, the end cut off, a piece repeated. */
export function mutate(sample: Buffer, random: Random): Buffer {
  let octets = Buffer.from(sample);
  for (let changes = 1 + random(4); changes > 0; changes -= 1) {
    const at = random(octets.length);
    const to = Math.min(octets.length, at + 1 + random(random(8) === 0 ? 200 : 12));
    const piece = octets.subarray(at, to);
    const [head, tail] = [octets.subarray(0, at), octets.subarray(to)];
    switch (random(6)) {
      case 0:
        octets[at] = random(2) === 0 ? (TELLING[random(TELLING.length)] ?? 0) : random(256);
        break;
      case 1:
        octets[at] = (octets[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        octets = Buffer.concat([head, tail]);
        break;
      case 3:
        octets = Buffer.concat([head, Buffer.from(Array.from(piece, () => random(256))), piece, tail]);
        break;
      case 4:
        // Rarely, since most of what is cut off is refused alike.
        octets = Buffer.from(random(4) === 0 ? head : octets);
        break;
      default:
        octets = Buffer.concat([head, piece, piece, tail]);
    }
  }
  return octets;
}

/** One kind of input: hands a mutated one to the parser, and says what came of it. @throws for what must never come of it */
export type Attempt = (random: Random) => string;

/** The sample of a list that `random` picks. */
export function pick<T>(samples: readonly T[], random: Random): T {
  const sample = samples[random(samples.length)];
  if (sample === undefined) throw new RangeError("there is nothing to pick from");
  return sample;
}
