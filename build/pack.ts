/** The bundled programs as one file, and back again. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import tar from "tar-stream";

/** Slow, for a file that is made once and kept: an eighth of what goes in. */
const COMPRESSION = { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_windowLog]: 26 };
const NEVER = new Date(0);

/** The same bytes for the same content. */
export async function pack(directory: string): Promise<Buffer> {
  const archive = tar.pack();
  const files = readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted();
  for (const name of files) {
    const file = path.join(directory, name);
    if (statSync(file).isFile()) archive.entry({ name, mtime: NEVER, mode: 0o644 }, readFileSync(file));
  }
  archive.finalize();
  return zstdCompressSync(await buffer(archive), { params: COMPRESSION });
}

export async function unpack(packed: Buffer, directory: string): Promise<void> {
  const entries = Readable.from([zstdDecompressSync(packed)]).pipe(tar.extract());
  for await (const entry of entries) {
    const file = path.join(directory, entry.header.name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, await buffer(entry));
  }
}
