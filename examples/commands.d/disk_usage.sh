# How full the root file system is. `df -P` prints one line of numbers in KiB after its header.
df -P / | {
    read -r header
    read -r _ total _ available _
    echo "$available of $total KiB are available"
    echo "{\"total\": $total, \"available\": $available}" > "$COUNTERSIGN_RESULT"
}
