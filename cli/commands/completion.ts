import type { Command, Option } from "commander";
import type { Terminal } from "../output.ts";

/** Asks this program for what may come next, so that there is one list of commands and it is never of another version. */
const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_mazevault() {
  local IFS=$'\\n' current="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(compgen -W "$(mazevault complete -- "\${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "$current"))
}
complete -o default -F _mazevault mazevault
`,
  zsh: `#compdef mazevault
_mazevault() {
  local -a found
  found=(\${(f)"$(mazevault complete -- "\${(@)words[2,CURRENT-1]}" 2>/dev/null)"})
  if (( $#found )); then compadd -a found; else _files; fi
}
compdef _mazevault mazevault
`,
};

export function completionCommands(program: Command, terminal: Terminal): void {
  const completion = program.command("completion").description("what a shell completes commands and options with");
  for (const [shell, script] of Object.entries(SCRIPTS)) {
    completion
      .command(shell)
      .description(`for ${shell}; in its start file: source <(mazevault completion ${shell})`)
      .action(() => void terminal.stdout.write(script));
  }

  program
    .command("complete", { hidden: true })
    .argument("[words...]", "what stands before the word that is completed")
    .action(
      (words: string[]) =>
        void terminal.stdout.write(
          next(program, words)
            .map((word) => `${word}\n`)
            .join(""),
        ),
    );
}

function next(program: Command, words: readonly string[]): readonly string[] {
  const before = words.at(-1);
  let command = program;
  for (const word of words) command = command.commands.find((each) => each.name() === word) ?? command;
  const everywhere = program.options.filter((option) => command === program || option.attributeName() !== "version");
  const options = command === program ? everywhere : [...command.options, ...everywhere];
  const named = options.find((option) => before !== undefined && (option.long === before || option.short === before));
  if (named !== undefined && takesValue(named)) return named.argChoices ?? [];
  const commands = command
    .createHelp()
    .visibleCommands(command)
    .map((each) => each.name());
  const [argument] = command.registeredArguments;
  return [...commands, ...(argument?.argChoices ?? []), ...options.flatMap(({ long }) => long ?? [])];
}

const takesValue = ({ required, optional }: Option): boolean => required || optional;
