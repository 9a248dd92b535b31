# Prints the comments of the Makefile: "target: ... ## text" and "##! NAME=VALUE  text". Targets come first.
/^##! /       { variables = variables "  " substr($0, 5) "\n" }
/^[a-z-]+:.*## / {
    name = $0; sub(/:.*/, "", name)
    text = $0; sub(/.*## /, "", text)
    targets = targets sprintf("  make %-14s %s\n", name, text)
}
END { printf "Targets:\n%s\nVariables:\n%s", targets, variables }
