import fc from "fast-check";
import { SlidingWindow } from "./sliding-window.ts";

it("counts what happened in the last span, for any history", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 30 }), { maxLength: 200 }), (gaps) => {
      const window = new SlidingWindow(100);
      const times: number[] = [];
      let now = 1_000;
      for (const gap of gaps) {
        now += gap;
        times.push(now);
        window.add(now);
        const inside = times.filter((time) => time > now - 100);
        expect(window.count(now)).toBe(inside.length);
        expect(window.untilNextLeaves(now)).toBe((inside[0] ?? now) + 100 - now);
      }
      expect(window.count(now + 100)).toBe(0);
    }),
  );
});
