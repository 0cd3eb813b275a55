"""What every package here stands on: errors that a reader can repair (`errors`), files that are
whole or absent (`files`), settings that check themselves (`settings`), what can be added by one
file (`registry`), several processes (`processes`). A leaf: it imports nothing of ours."""
