import { formatTable } from "./table.ts";

test("columns are aligned, the rows are counted", () => {
  const rows = [
    ["1", "payments"],
    ["22", null],
  ];
  expect(formatTable(["id", "name"], rows)).toBe(
    [" id | name", "----+----------", " 1  | payments", " 22 |", "(2 rows)"].join("\n"),
  );
});

test("no rows are a header and a zero", () => {
  expect(formatTable(["id"], [])).toBe(" id\n----\n(0 rows)");
});
